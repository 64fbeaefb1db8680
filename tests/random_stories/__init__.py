"""Stories composed at random from building blocks, each with its truth by brute force.

`plan` says what a story is made of, `composed` tells it in Pyro, `truth` answers in numpy and scipy from the same
numbers and neither by Pyro nor by probclust, and `walk` takes it through every public function.
"""
