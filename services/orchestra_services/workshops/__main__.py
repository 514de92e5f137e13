"""`python -m orchestra_services.workshops`."""

from orchestra_services.workshops.app import main

if __name__ == "__main__":
    main()
