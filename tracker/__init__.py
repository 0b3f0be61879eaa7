"""Mail and git in, changes with their release windows out."""
