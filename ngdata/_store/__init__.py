"""The write side: what the tables are (`models`), and how rows get into them."""
