"""`jupyter volumes doctor`: one file for each kind of thing that it checks; a check changes nothing."""
