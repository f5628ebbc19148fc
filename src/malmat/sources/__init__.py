"""Published data sets: their files, their licences, and their rows in one form."""
