"""The browser that this folder's tests open pages in."""

from tests.builders.pages import browser  # noqa: F401 (a fixture)
