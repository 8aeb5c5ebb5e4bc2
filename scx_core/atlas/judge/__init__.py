"""From a unit's figures to its verdict, in words and beside what could do as well."""
