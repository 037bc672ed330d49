"""What the commands show: tables, sizes, progress, complaints."""
