from setuptools import find_packages, setup

package_name = 'humanx_mocap_bridge'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    zip_safe=True,
    maintainer='HumanX maintainers',
    maintainer_email='maintainers@humanx.invalid',
    description='Motion capture in, object states with dropout flags out.',
    license='Apache-2.0',
    entry_points={'console_scripts': ['mocap_bridge = humanx_mocap_bridge.node:main']},
)
