"""What is deployed: images, compose.yaml, the dashboard."""
