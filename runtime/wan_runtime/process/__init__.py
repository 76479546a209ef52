"""The processes of a pod: what starts and watches them, what they report and how they end."""
