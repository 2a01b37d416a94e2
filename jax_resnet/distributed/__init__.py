"""The devices and processes that compute a run together."""
