"""What leaves the program: a merged model, and the receipt that proves it. Each result is complete or absent."""
