"""Stands in for the program: prints its arguments and ends with STUB_EXIT."""

import json
import os
import sys

print(json.dumps(sys.argv[1:]))
raise SystemExit(int(os.environ.get("STUB_EXIT", "0")))
