"""Parts of the page Circuits."""
