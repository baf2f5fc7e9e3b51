"""Opt-in client instrumentation: a wrapper per client library, one observer behind them all."""
