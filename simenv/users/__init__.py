"""Users: personas, where their queries come from, and the judges that click for them."""
