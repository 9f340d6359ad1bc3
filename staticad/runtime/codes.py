"""Status codes that programs share; those from 1 on are each program's own."""

REFUSED = -1  # an argument that does not fit
NEGATIVE_POWER = -2  # an integer to the power of a negative one
RAISED = -1000  # and all below: what a function of the user's raised, see `user`

NEGATIVE_POWER_TEXT = "pow: integers to negative integer powers are not allowed; convert to a floating dtype"
