"""Grafana's dashboards, made of Python: what is shown, which queries show it, and how the panels are laid out.

Nothing here asks a data source; Grafana does. The JSON is kept in `dashboards/`, and a test holds it against this code.
"""
