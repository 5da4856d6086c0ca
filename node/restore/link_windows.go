package restore

import (
	"os"
	"time"
)

func setLinkTime(*os.Root, string, time.Time) {}
