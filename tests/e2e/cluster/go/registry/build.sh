packages=.
