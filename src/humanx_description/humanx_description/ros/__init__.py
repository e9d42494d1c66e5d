"""What the project's nodes share. Needs rclpy; imported by nodes only."""
