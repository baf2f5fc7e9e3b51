"""Alerts: what wakes whom, and why. Rules for Prometheus, made by code, so that none lacks an owner or a runbook."""
