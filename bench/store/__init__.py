"""Where runs lie: study folders, run folders and their states.

```
results/<study>/
  study.json                      the resolved request
  runs/<run>/spec.json environment.json history.jsonl checkpoint.pt
             availability.parquet predictions.parquet status.json(last)
  reports/
```
A training that is long saves itself in `resume.pt`, which is gone when the run is done.
`status.json` is written last and is the only mark of done, failed and skipped. While a run is at
work, `running.json` names its process; when that process is dead, the run is pending again. A run
whose files were finished and have changed since is damaged; who writes takes it back to pending.
One process writes a folder at a time, whatever the number of coordinators: a claim is a link, made
once or not at all, which holds on a shared file system too. Nothing is pickled.
"""

from bench.store.run_files import (
    REPRESENTATIONS,
    RESUME,
    RESUME_BEFORE,
    RESUME_LOG,
    RUNNING,
    RunFiles,
    State,
    reason_of,
)
from bench.store.run_folder import Finished, RunFolder
from bench.store.study_folder import StudyFolder

__all__ = [
    "REPRESENTATIONS",
    "RESUME",
    "RESUME_BEFORE",
    "RESUME_LOG",
    "RUNNING",
    "Finished",
    "RunFiles",
    "RunFolder",
    "State",
    "StudyFolder",
    "reason_of",
]
