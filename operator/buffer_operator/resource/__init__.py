"""What a user writes and reads: the spec with its rules, the schedule, the conditions."""
