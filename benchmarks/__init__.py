"""What ngdata costs beside its peers and the floor that PostgreSQL sets; `make bench` runs all."""
