"""The pages a person sees without Grafana."""
