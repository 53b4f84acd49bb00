"""What is made of stored results: pages, tables, papers; nothing is computed anew."""
