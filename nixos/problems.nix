{ entries }: [ ]
