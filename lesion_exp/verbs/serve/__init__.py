"""A run's network as a web application: predictions of uploaded images, a page for people, and what guards both."""
