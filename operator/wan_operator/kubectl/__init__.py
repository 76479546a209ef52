"""`kubectl wan`: what users run beside kubectl, on their own machine."""
