"""A sweep: many jobs of `shiftbench score`, each run once, on one machine or many, and a ledger of them.

asked      the jobs that a command line asks for, composed up front
task       one job as it is handed to whoever runs it, and running it
launcher   Hydra's launchers: in this process, joblib, submitit
ledger     OUT/.sweep: a status file a job, and the locks that say who is at work
watch      the ledger as bars on a terminal or lines in a pipe
submitter  the process that starts all of it and alone writes to MLflow
"""
