"""Who else could have said it: the same tracer and the same tests on other features than transcoders'."""
