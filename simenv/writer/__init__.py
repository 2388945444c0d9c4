"""Texts of mechanisms: answers, sentences about ads, and answers for which the language model chooses the ads.

`simenv.Writer` is the class. The mechanisms that ship use it too, so that a mechanism of your own asks the model with
the same prompts and limits as they do.
"""
