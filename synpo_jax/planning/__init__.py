"""A run compiled and weighed for chips that are not there."""
