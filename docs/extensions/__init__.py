"""What the site needs beyond Sphinx: the reference, links, figures and a store for the notebooks."""
