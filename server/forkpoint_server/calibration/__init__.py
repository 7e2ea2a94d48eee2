"""Fork thresholds measured on the served model, and the stored calibrations they come from."""
