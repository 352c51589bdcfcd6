"""The verb `audit`: what a split leaks, also a published one, and what that does to scores."""
