"""``gateway doctor``: what keeps this machine from taking calls, each with its cure."""
