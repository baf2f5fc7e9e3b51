"""Objectives, burn rates and every metric of ours."""
