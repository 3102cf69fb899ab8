"""Experiments that show what normalization does to training: what all jobs share, and a folder for each job.

A job is a command with a page: experiments that run one after the other (`run`), each a record of its settings,
results, figures and words (`experiment`). A further experiment is one file with such a record, and its name in the list
of the job.
"""
