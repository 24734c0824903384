"""A sweep: many jobs of `shiftbench score`, on one machine or on many; see docs/cluster.md.

command_line  which jobs a command line requests; all are composed before any runs
task          one job in the form that is sent to the process that runs it, and running it there
launcher      Hydra's launchers: in this process, joblib, submitit
ledger        the folder OUT/.sweep: one status file for each job, and locks that show which process works on what
watch         the progress of a sweep: lines, and on a terminal a bar too
gpus          leases of the GPUs of one machine, one or more for each job
submitter     the process that starts the sweep, and the only one of its processes that writes to MLflow
"""
