"""What is made of a sweep's folder: its page, and tables and figures for papers."""
