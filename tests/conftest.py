"""What all tests share: property tests have no deadline, as a busy machine is not a bug."""

from hypothesis import settings

settings.register_profile("scx", deadline=None, print_blob=True)
settings.load_profile("scx")
