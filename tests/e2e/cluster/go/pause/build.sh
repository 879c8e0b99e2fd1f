packages=. # only the standard library
