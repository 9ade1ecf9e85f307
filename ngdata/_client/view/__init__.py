"""The 3D viewer of notebooks: what it reads, what it draws, and the widget that shows it."""
