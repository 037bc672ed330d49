"""How the commands show things: columns, sizes, progress, complaints."""
