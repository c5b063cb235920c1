"""What the tests share; no test file imports another."""
