"""Plans, throttles, sends again and follows up until recovery was observed."""
