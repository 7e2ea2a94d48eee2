"""Asking a data set's questions, scoring the answers, and the statistics: shared by ab, findings and calibrate."""
