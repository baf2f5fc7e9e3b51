"""OTLP traces -> events, on columns."""
