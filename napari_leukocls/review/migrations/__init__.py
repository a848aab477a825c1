"""How the tables of the review store came to be what they are (Alembic)."""
