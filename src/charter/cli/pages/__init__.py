"""Pages made of nothing but one HTML file: escaping, plots, style. Data goes in, text comes out; no network."""
