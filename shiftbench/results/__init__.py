"""What a run leaves in its folder.

writing.py          writes scores.json, tables, figures, configuration and report, each file whole or not at all
results_folder.py   which pair's results a folder holds, and how new results replace earlier ones
document.py         scores.json: its content, written and read
"""
