"""``python -m buffer_operator``."""

from buffer_operator.main import main

raise SystemExit(main())
