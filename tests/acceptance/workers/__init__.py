"""`--workers`: several processes that are one proxy to its clients and operators, and report what they lose."""
